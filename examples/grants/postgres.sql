-- A role for the exporter on PostgreSQL 12 to 18 that may monitor and nothing else: enough for compat/postgres_exporter and
-- the packs postgres/*. Run it once, as a superuser, in any database of the server. Then set a password, which psql's
-- \password exporter sends encrypted.
--
-- pg_monitor is statistics, sizes and settings of the whole server, and the lists of WAL, log and temporary files; it reads
-- no table. Who may not give it leaves it out: what the role lacks is absent, the rest works.
-- The limit leaves the exporter its three sessions, and two to cancel what runs too long; for several databases of the server,
-- multiply it.
CREATE ROLE exporter LOGIN CONNECTION LIMIT 5;
GRANT pg_monitor TO exporter;

-- In each database whose public may not connect: GRANT CONNECT ON DATABASE … TO exporter;
