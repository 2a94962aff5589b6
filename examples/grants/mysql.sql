-- A user for the exporter on MySQL 5.7 to 9.7 that may monitor and nothing else: enough for compat/mysqld_exporter, its
-- optional files and the packs mysql/*. Run it once, as an administrator:
--   mysql < mysql.sql
-- Then set a password and unlock the user: ALTER USER exporter IDENTIFIED BY '…' ACCOUNT UNLOCK;
--
-- Leave out what you do not need: a query whose privilege the user lacks is absent, and the rest works. No line lets the user
-- read a row of your tables. The limit leaves the exporter its three sessions, and two to cancel what runs too long; for several
-- databases of the server, multiply it.
CREATE USER 'exporter'@'%' WITH MAX_USER_CONNECTIONS 5 ACCOUNT LOCK;

-- Status, variables, uptime: no privilege.

-- PROCESS: connections of all users with the statements that they run, transactions, and what InnoDB says of itself
-- (mysql/connections, mysql/innodb, mysql/processes, mysql/transactions, compat: info_schema.innodb_*, processlist).
GRANT PROCESS ON *.* TO 'exporter'@'%';

-- REPLICATION CLIENT: the state of replication, names and sizes of binary logs (mysql/replication, mysql/binlog, compat:
-- slave_status, binlog_size).
GRANT REPLICATION CLIENT ON *.* TO 'exporter'@'%';

-- Statistics of statements, tables, indexes, files, memory, locks, groups (mysql/digests, mysql/table_io, mysql/file_io,
-- mysql/memory, mysql/group_replication and others, compat: perf_schema.*). It shows texts of statements that run or ran last.
GRANT SELECT ON performance_schema.* TO 'exporter'@'%';

-- Users' sums (compat: sys.user_summary). The views of sys read with the privileges of who asks.
GRANT SELECT ON sys.* TO 'exporter'@'%';

-- REFERENCES: names, sizes, rows and AUTO_INCREMENT columns of all tables in information_schema, which shows what one has any
-- privilege on; this one reads nothing, and changes nothing without CREATE (mysql/tables, compat: info_schema.tables,
-- auto_increment.columns, schemastats, tablestats). For some databases only: GRANT REFERENCES ON shop.* TO …
GRANT REFERENCES ON *.* TO 'exporter'@'%';

-- Limits and privileges of users without their passwords (compat: mysql.user).
GRANT SELECT (User, Host, max_questions, max_updates, max_connections, max_user_connections, Select_priv, Insert_priv,
  Update_priv, Delete_priv, Create_priv, Drop_priv, Reload_priv, Shutdown_priv, Process_priv, File_priv, Grant_priv,
  References_priv, Index_priv, Alter_priv, Show_db_priv, Super_priv, Create_tmp_table_priv, Lock_tables_priv, Execute_priv,
  Repl_slave_priv, Repl_client_priv, Create_view_priv, Show_view_priv, Create_routine_priv, Alter_routine_priv,
  Create_user_priv, Event_priv, Trigger_priv, Create_tablespace_priv) ON mysql.user TO 'exporter'@'%';

-- Only where you need them:
-- The heartbeat table (compat: heartbeat):          GRANT SELECT ON heartbeat.heartbeat TO 'exporter'@'%';
-- Events that are scheduled (mysql/events):         GRANT EVENT ON shop.* TO 'exporter'@'%';
-- The replicas of this server (mysql/binlog, compat: slave_hosts). Whoever has this can read the whole binary log, and so every
-- change of your data:                              GRANT REPLICATION SLAVE ON *.* TO 'exporter'@'%';
