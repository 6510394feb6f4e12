-- Group roles without login; an installation's users are members of them. The worker can begin a dial, say what
-- became of it, and write its own call records: nothing else in the ledger.
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['callfleet_worker', 'callfleet_gateway'] LOOP
        -- Roles are shared by all databases of a server: another installation, or an administrator, may have made them.
        CONTINUE WHEN EXISTS (SELECT 1 FROM pg_roles WHERE rolname = v_role);
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN
                NULL; -- made by another migration at the same moment
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'this user may not create roles: let an administrator run CREATE ROLE % NOLOGIN', v_role;
        END;
    END LOOP;
END $$;

-- Functions of later migrations, too, are nobody's until they are granted.
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO callfleet_worker, callfleet_gateway;
GRANT EXECUTE ON FUNCTION attempt_view(uuid) TO callfleet_worker, callfleet_gateway;
GRANT EXECUTE ON FUNCTION begin_dial(uuid, text, uuid), worker_record_placed(uuid, text, integer, text),
    worker_record_answered(uuid, text, integer, text, timestamptz), worker_record_ended(uuid, text, integer, jsonb)
    TO callfleet_worker;
GRANT EXECUTE ON FUNCTION record_placed(uuid, text), record_answered(uuid, text, timestamptz),
    record_ended(uuid, jsonb) TO callfleet_gateway;
GRANT SELECT (id, contact_id) ON calls TO callfleet_worker;
GRANT UPDATE (disposition, turns, decided_by, latency_ms_p50) ON calls TO callfleet_worker;
GRANT SELECT, INSERT ON conversations, lead_scores, call_usage TO callfleet_worker;
GRANT UPDATE (qualification_score, interest_level, budget_qualified, timeline, decision_maker, fields) ON lead_scores TO callfleet_worker;
GRANT UPDATE (quantity) ON call_usage TO callfleet_worker;
