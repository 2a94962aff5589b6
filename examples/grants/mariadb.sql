-- A user for the exporter on MariaDB 10.5.9 and later that may monitor and nothing else: enough for compat/mysqld_exporter, its
-- optional files and the packs mysql/* and mariadb/*. Run it once, as an administrator:
--   mariadb < mariadb.sql
-- Then set a password and unlock the user: ALTER USER exporter IDENTIFIED BY '…' ACCOUNT UNLOCK;
--
-- Leave out what you do not need: a query whose privilege the user lacks is absent, and the rest works. No line lets the user
-- read a row of your tables. The limit leaves the exporter its three sessions, and two to cancel what runs too long; for several
-- databases of the server, multiply it.
CREATE USER 'exporter'@'%' WITH MAX_USER_CONNECTIONS 5 ACCOUNT LOCK;

-- Status, variables, uptime: no privilege.

-- PROCESS: connections of all users with the statements that they run, transactions, user statistics, and what InnoDB says
-- of itself (mysql/connections, mysql/innodb, mysql/processes, mysql/transactions, mariadb/*, compat: info_schema.innodb_*,
-- processlist, clientstats, userstats).
GRANT PROCESS ON *.* TO 'exporter'@'%';

-- SLAVE MONITOR: the state of replication (mysql/replication, compat: slave_status).
-- BINLOG MONITOR: names and sizes of binary logs (mysql/binlog, compat: binlog_size).
GRANT SLAVE MONITOR, BINLOG MONITOR ON *.* TO 'exporter'@'%';

-- Statistics of statements, tables, indexes, files, memory, locks, where performance_schema is on (mysql/digests,
-- mysql/table_io, mysql/file_io, mysql/memory and others, compat: perf_schema.*), and before 11.6 the domains of GTIDs (compat:
-- slave_status). It shows texts of statements that run or ran last.
GRANT SELECT ON performance_schema.* TO 'exporter'@'%';

-- Users' sums, from 10.6 on (compat: sys.user_summary). The views of sys read with the privileges of who asks.
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
-- The replicas of this server (mysql/binlog, compat: slave_hosts). Whoever has this can also set the variables of a primary:
--                                                   GRANT REPLICATION MASTER ADMIN ON *.* TO 'exporter'@'%';
