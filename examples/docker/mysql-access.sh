#!/bin/sh
# Runs once in a new MySQL container, after ../grants/mysql.sql: the password of the exporter's user, and what it may read.
set -eu

# A quote in a text of SQL is written twice, a backslash too.
password=$(sed "s/['\\\\]/&&/g" "$EXPORTER_PASSWORD_FILE")
MYSQL_PWD=$MYSQL_ROOT_PASSWORD mysql --user=root "$MYSQL_DATABASE" <<SQL
ALTER USER 'exporter'@'%' IDENTIFIED BY '$password' ACCOUNT UNLOCK;
GRANT SELECT ON orders TO 'exporter'@'%';
SQL
