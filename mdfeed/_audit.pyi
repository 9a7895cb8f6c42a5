# Nothing here is visible from Python; _book.pyi has the public class.
