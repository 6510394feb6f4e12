-- Calls by year (D5). The partition of a call is that of its begin_dial; nothing may depend on a partition being there,
-- so what has none lies in calls_default until it is made. Records of a call refer to its attempt, whose id it has.
ALTER TABLE calls RENAME TO calls_whole;
ALTER TABLE calls_whole RENAME CONSTRAINT calls_pkey TO calls_whole_pkey;
ALTER INDEX calls_start_time RENAME TO calls_whole_start_time;

CREATE TABLE calls (
    id uuid NOT NULL REFERENCES dial_attempts (id),
    contact_id uuid NOT NULL REFERENCES contacts (id),
    status text NOT NULL,
    disposition text,
    start_time timestamptz,
    end_time timestamptz,
    duration integer,
    cost numeric(10, 4),
    recording_url text,
    turns integer NOT NULL DEFAULT 0,
    decided_by jsonb NOT NULL DEFAULT '{}',
    latency_ms_p50 integer,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);
CREATE INDEX calls_start_time ON calls (start_time);
CREATE INDEX calls_contact ON calls (contact_id, created_at);
CREATE TABLE calls_default PARTITION OF calls DEFAULT;

-- Makes the partitions of the years from p_first to p_last (in UTC) that are not there yet; answers how many it made.
-- Rows that waited in calls_default move into theirs.
CREATE FUNCTION ensure_call_partitions(p_first integer, p_last integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_name text;
    v_from timestamptz;
    v_to timestamptz;
    v_made integer := 0;
BEGIN
    IF p_first < 2000 OR p_last > 2200 OR p_last < p_first THEN
        RAISE EXCEPTION 'years % to % make no sense: give years between 2000 and 2200', p_first, p_last;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('ensure_call_partitions', 0));
    FOR v_year IN p_first..p_last LOOP
        v_name := format('calls_%s', v_year);
        CONTINUE WHEN to_regclass(v_name) IS NOT NULL;
        v_from := make_timestamptz(v_year, 1, 1, 0, 0, 0, 'UTC');
        v_to := make_timestamptz(v_year + 1, 1, 1, 0, 0, 0, 'UTC');
        EXECUTE format('CREATE TABLE %I (LIKE calls INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', v_name);
        EXECUTE format('WITH moved AS (DELETE FROM calls_default WHERE created_at >= %L AND created_at < %L RETURNING *)'
                       ' INSERT INTO %I SELECT * FROM moved', v_from, v_to, v_name);
        EXECUTE format('ALTER TABLE calls ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', v_name, v_from, v_to);
        v_made := v_made + 1;
    END LOOP;
    RETURN v_made;
END $$;

DO $$
DECLARE
    v_now integer := extract(year FROM now() AT TIME ZONE 'UTC');
    v_first integer;
BEGIN
    SELECT COALESCE(extract(year FROM min(created_at) AT TIME ZONE 'UTC'), v_now) INTO v_first FROM calls_whole;
    PERFORM ensure_call_partitions(LEAST(v_first, v_now), v_now + 1);
END $$;

INSERT INTO calls (id, contact_id, status, disposition, start_time, end_time, duration, cost, recording_url, turns, decided_by,
                   latency_ms_p50, created_at)
SELECT id, contact_id, status, disposition, start_time, end_time, duration, cost, recording_url, turns, decided_by,
       latency_ms_p50, created_at FROM calls_whole;
ALTER TABLE conversations DROP CONSTRAINT conversations_call_id_fkey;
ALTER TABLE lead_scores DROP CONSTRAINT lead_scores_call_id_fkey;
ALTER TABLE call_usage DROP CONSTRAINT call_usage_call_id_fkey;
DROP TABLE calls_whole;
ALTER TABLE conversations ADD FOREIGN KEY (call_id) REFERENCES dial_attempts (id);
ALTER TABLE lead_scores ADD FOREIGN KEY (call_id) REFERENCES dial_attempts (id);
ALTER TABLE call_usage ADD FOREIGN KEY (call_id) REFERENCES dial_attempts (id);

REVOKE EXECUTE ON FUNCTION ensure_call_partitions(integer, integer) FROM PUBLIC;
GRANT SELECT (id, contact_id) ON calls TO callfleet_worker;
GRANT UPDATE (disposition, turns, decided_by, latency_ms_p50) ON calls TO callfleet_worker;
