#!/usr/bin/env bash
# Fails when the unit's exposure (systemd-analyze security) is above 1.1, or above 0.9 with the loopback-only drop-in.
set -euo pipefail
cd "$(dirname "$0")/../deploy/systemd"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
unit=$folder/market-data.service
sed 's|@USER@|mdfeed|g; s|@PREFIX@|/opt/mdfeed|g; s|@CONFIG@|/etc/mdfeed/config.yaml|g' market-data.service >"$unit"
systemd-analyze security --offline=true --no-pager --threshold=11 "$unit" | tail -1
mkdir "$unit.d"
cp loopback-only.conf "$unit.d/"
systemd-analyze security --offline=true --no-pager --threshold=9 "$unit" | tail -1
