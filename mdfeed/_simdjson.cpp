// The one translation unit of simdjson; its sources come with pysimdjson (see setup.py).
#include "simdjson.cpp"
