-- Workers of a release before write into the tables themselves.
DROP FUNCTION worker_tables_close();
DROP FUNCTION worker_tables_revoke();
DROP TABLE worker_tables;
DROP FUNCTION worker_opted_out(uuid, text, integer);
DROP FUNCTION worker_finish(uuid, text, integer, jsonb);
DROP FUNCTION worker_keep_lead(uuid, uuid, boolean, jsonb);
DROP FUNCTION worker_add_turns(uuid, text, integer, jsonb);
DROP FUNCTION worker_lock_call(uuid, text, integer);
GRANT SELECT (id, contact_id) ON calls TO callfleet_worker;
GRANT UPDATE (disposition, turns, decided_by, latency_ms_p50) ON calls TO callfleet_worker;
GRANT SELECT, INSERT ON conversations, lead_scores, call_usage TO callfleet_worker;
GRANT UPDATE (qualification_score, interest_level, budget_qualified, timeline, decision_maker, fields) ON lead_scores TO callfleet_worker;
GRANT UPDATE (quantity) ON call_usage TO callfleet_worker;
