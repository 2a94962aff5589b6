"""The workloads as data: what is asked. The exporter's configurations and the floors are made from this list, so both
ask the same questions. A query is (labels, sql); the number is in the last column, `value`."""

STATISTICS = [
    "SELECT datname::text AS label, numbackends::float8 AS value FROM pg_stat_database WHERE datname IS NOT NULL",
    "SELECT datname::text AS label, xact_commit::float8 AS value FROM pg_stat_database WHERE datname IS NOT NULL",
    "SELECT datname::text AS label, blks_hit::float8 AS value FROM pg_stat_database WHERE datname IS NOT NULL",
    "SELECT coalesce(state, 'none')::text AS label, count(*)::float8 AS value FROM pg_stat_activity GROUP BY 1",
    "SELECT relname::text AS label, n_live_tup::float8 AS value FROM pg_stat_user_tables"
    " WHERE relname IN ('orders', 'series')",
    "SELECT mode::text AS label, count(*)::float8 AS value FROM pg_locks GROUP BY 1",
    "SELECT 'allocated'::text AS label, buffers_alloc::float8 AS value FROM pg_stat_bgwriter",
    "SELECT indexrelname::text AS label, idx_scan::float8 AS value FROM pg_stat_user_indexes LIMIT 20",
    "SELECT name::text AS label, setting::float8 AS value FROM pg_settings"
    " WHERE vartype IN ('integer', 'real') ORDER BY name LIMIT 20",
    "SELECT 'uptime'::text AS label, extract(epoch FROM now() - pg_postmaster_start_time())::float8 AS value",
]


def tiny(number, driver):
    if driver == "sqlite":
        return (["label"], f"SELECT label, sum(v) AS value FROM tiny WHERE t = {number} GROUP BY label")
    return (["label"], f"SELECT label, sum(v) AS value FROM tiny_{number:02d} GROUP BY label")


def cheap(driver):
    """W1: 50 queries of a fraction of a millisecond; about 461 series on PostgreSQL, 475 elsewhere."""
    if driver == "postgres":
        return [tiny(number, driver) for number in range(1, 41)] + [(["label"], sql) for sql in STATISTICS]
    return [tiny(number, driver) for number in range(1, 51)]


def slow():
    """W2: 8 queries of half a second."""
    sql = "SELECT 's{}'::text AS label, 1::float8 AS value FROM pg_sleep(0.5)"
    return [(["label"], sql.format(number)) for number in range(8)]


def large(series):
    """W3: one query with many rows."""
    table = "series" if series <= 100_000 else "many"
    return [(["k1", "k2"], f"SELECT k1, k2, v AS value FROM {table} LIMIT {series}")]
