ALTER TABLE calls RENAME TO calls_by_year;
ALTER TABLE calls_by_year RENAME CONSTRAINT calls_pkey TO calls_by_year_pkey;
ALTER INDEX calls_start_time RENAME TO calls_by_year_start_time;
CREATE TABLE calls (
    id uuid PRIMARY KEY REFERENCES dial_attempts (id),
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
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX calls_start_time ON calls (start_time);
INSERT INTO calls (id, contact_id, status, disposition, start_time, end_time, duration, cost, recording_url, turns, decided_by,
                   latency_ms_p50, created_at)
SELECT id, contact_id, status, disposition, start_time, end_time, duration, cost, recording_url, turns, decided_by,
       latency_ms_p50, created_at FROM calls_by_year;
ALTER TABLE conversations DROP CONSTRAINT conversations_call_id_fkey;
ALTER TABLE lead_scores DROP CONSTRAINT lead_scores_call_id_fkey;
ALTER TABLE call_usage DROP CONSTRAINT call_usage_call_id_fkey;
DROP TABLE calls_by_year;
DROP FUNCTION ensure_call_partitions(integer, integer);
ALTER TABLE conversations ADD FOREIGN KEY (call_id) REFERENCES calls (id);
ALTER TABLE lead_scores ADD FOREIGN KEY (call_id) REFERENCES calls (id);
ALTER TABLE call_usage ADD FOREIGN KEY (call_id) REFERENCES calls (id);
GRANT SELECT (id, contact_id) ON calls TO callfleet_worker;
GRANT UPDATE (disposition, turns, decided_by, latency_ms_p50) ON calls TO callfleet_worker;
