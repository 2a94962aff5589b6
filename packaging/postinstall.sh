#!/bin/sh
# After the files are there. dpkg calls it with `configure`, rpm with the number of versions: 1, or 2 in an upgrade.
set -e

case $1 in
  configure | [0-9]*) ;;
  *) exit 0 ;;
esac

systemd-sysusers sql-exporter.conf

# The service reads them, other users do not. Another group that the administrator has chosen stays.
for path in /etc/sql-exporter /etc/sql-exporter/config.yaml /etc/default/sql-exporter; do
  if [ -e "$path" ] && [ "$(stat -c %G "$path")" = root ]; then
    chgrp sql-exporter "$path"
  fi
done

# The service is not started before it is configured; one that runs gets the new version. If that does not start, the package is
# installed all the same.
if [ -d /run/systemd/system ]; then
  systemctl daemon-reload
  systemctl try-restart sql-exporter.service ||
    echo 'sql-exporter: the service did not start again. The reason is in: journalctl -u sql-exporter' >&2
fi
if [ "$1$2" = configure ] || [ "$1" = 1 ]; then
  echo 'sql-exporter: name a database in /etc/sql-exporter/config.yaml (its comment says how), then run: systemctl enable --now sql-exporter'
fi
