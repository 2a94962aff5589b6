-- A database whose owner puts something of the same name before everything that the catalog has: functions, aggregates,
-- operators, relations, types. Whoever comes upon one of them ends with an error that names it.
SET search_path = pg_catalog;
CREATE SCHEMA mine;
GRANT USAGE ON SCHEMA mine TO PUBLIC;

CREATE FUNCTION mine.trap(what text) RETURNS boolean LANGUAGE plpgsql AS $trap$
BEGIN
  RAISE EXCEPTION USING MESSAGE = pg_catalog.concat('mine.', what, ' was called');
END $trap$;

CREATE FUNCTION mine.made() RETURNS TABLE (kind text, count bigint) LANGUAGE sql SET search_path = pg_catalog AS $made$
  SELECT 'functions', count(*) FROM pg_proc WHERE pronamespace = 'mine'::regnamespace AND prokind = 'f'
  UNION ALL SELECT 'aggregates', count(*) FROM pg_proc WHERE pronamespace = 'mine'::regnamespace AND prokind = 'a'
  UNION ALL SELECT 'operators', count(*) FROM pg_operator WHERE oprnamespace = 'mine'::regnamespace
  UNION ALL SELECT 'relations', count(*) FROM pg_class WHERE relnamespace = 'mine'::regnamespace
  UNION ALL SELECT 'types', count(*) FROM pg_type WHERE typnamespace = 'mine'::regnamespace AND typtype = 'd'
$made$;

DO $all$
DECLARE
  it record;
  body text;
BEGIN
  FOR it IN
    SELECT p.oid, p.proname AS name, p.prokind AS kind, oidvectortypes(p.proargtypes) AS arguments,
           CASE WHEN p.proretset THEN 'SETOF ' ELSE '' END || format_type(p.prorettype, NULL) AS result
    FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a')
  LOOP
    body := format('BEGIN RAISE EXCEPTION USING MESSAGE = %L; END', 'mine.' || it.name || ' was called');
    BEGIN
      IF it.kind = 'f' THEN
        EXECUTE format('CREATE FUNCTION mine.%I(%s) RETURNS %s LANGUAGE plpgsql AS %L',
                       it.name, it.arguments, it.result, body);
      ELSE
        EXECUTE format('CREATE FUNCTION mine.step_%s(%s) RETURNS %s LANGUAGE plpgsql AS %L',
                       it.oid, concat_ws(', ', it.result, nullif(it.arguments, '')), it.result, body);
        EXECUTE format('CREATE AGGREGATE mine.%I(%s) (SFUNC = mine.step_%s, STYPE = %s)',
                       it.name, coalesce(nullif(it.arguments, ''), '*'), it.oid, it.result);
      END IF;
    -- Types that only C has.
    EXCEPTION WHEN invalid_function_definition OR feature_not_supported OR datatype_mismatch OR undefined_object THEN
    END;
  END LOOP;

  FOR it IN
    SELECT o.oid, o.oprname AS name, o.oprleft <> 0 AS is_binary, format_type(o.oprleft, NULL) AS left_type,
           format_type(o.oprright, NULL) AS right_type, format_type(o.oprresult, NULL) AS result
    FROM pg_operator o
    WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprright <> 0
  LOOP
    body := format('BEGIN RAISE EXCEPTION USING MESSAGE = %L; END',
                   format('mine.%s(%s, %s) was called', it.name, it.left_type, it.right_type));
    BEGIN
      EXECUTE format('CREATE FUNCTION mine.operator_%s(%s%s) RETURNS %s LANGUAGE plpgsql AS %L', it.oid,
                     CASE WHEN it.is_binary THEN it.left_type || ', ' ELSE '' END, it.right_type, it.result, body);
      EXECUTE format('CREATE OPERATOR mine.%s (FUNCTION = mine.operator_%s%s, RIGHTARG = %s)', it.name, it.oid,
                     CASE WHEN it.is_binary THEN ', LEFTARG = ' || it.left_type ELSE '' END, it.right_type);
    EXCEPTION WHEN invalid_function_definition OR feature_not_supported OR datatype_mismatch OR undefined_object THEN
    END;
  END LOOP;

  FOR it IN
    SELECT relname AS name FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')
  LOOP
    BEGIN
      EXECUTE format('CREATE VIEW mine.%I AS SELECT * FROM pg_catalog.%I WHERE mine.trap(%L)', it.name, it.name, it.name);
    EXCEPTION WHEN invalid_table_definition OR feature_not_supported THEN
    END;
  END LOOP;

  FOR it IN
    SELECT typname AS name FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' AND typelem = 0
  LOOP
    EXECUTE format('CREATE DOMAIN mine.%I AS pg_catalog.text', it.name);
  END LOOP;
END $all$;
GRANT SELECT ON ALL TABLES IN SCHEMA mine TO PUBLIC;
