#!/bin/sh
# Before the files go. dpkg calls it with `remove` or `upgrade`, rpm with the number of versions that stay: 0, or 1 in an upgrade.
set -e

case $1 in
  remove | 0)
    if [ -d /run/systemd/system ]; then
      systemctl --quiet disable --now sql-exporter.service sql-exporter.socket
    fi
    ;;
esac
