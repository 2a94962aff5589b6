#!/bin/sh
# After the files are gone. The user stays, as files may be its own.
set -e

case $1 in
  remove | purge | 0)
    if [ -d /run/systemd/system ]; then
      systemctl daemon-reload
    fi
    ;;
esac
