-- The release before knows no corrections. The money stays: what was corrected becomes part of the one late entry that
-- an attempt may have in an account, so that balances are still the sums of their entries.
ALTER TABLE ledger_entries DISABLE TRIGGER ledger_entries_append_only;
CREATE TEMPORARY TABLE folded ON COMMIT DROP AS
    SELECT attempt_id, account_id, sum(spent_micros)::bigint AS spent_micros,
           (array_agg(limit_micros ORDER BY id DESC))[1] AS limit_micros, max(at) AS at
    FROM ledger_entries e
    WHERE kind IN ('late', 'correction') AND EXISTS (
        SELECT 1 FROM ledger_entries c WHERE c.attempt_id = e.attempt_id AND c.kind = 'correction')
    GROUP BY attempt_id, account_id;
DELETE FROM ledger_entries e USING folded f
    WHERE e.attempt_id = f.attempt_id AND e.account_id = f.account_id AND e.kind IN ('late', 'correction');
INSERT INTO ledger_entries (attempt_id, account_id, kind, held_micros, spent_micros, limit_micros, at)
    SELECT attempt_id, account_id, 'late', 0, spent_micros, limit_micros, at FROM folded ORDER BY at;
DROP TABLE folded;
ALTER TABLE ledger_entries ENABLE TRIGGER ledger_entries_append_only;

DROP INDEX ledger_entries_once;
ALTER TABLE ledger_entries
    DROP CONSTRAINT ledger_entries_numbered,
    DROP CONSTRAINT ledger_entries_correction,
    DROP CONSTRAINT ledger_entries_kind_check,
    DROP COLUMN number,
    ADD CONSTRAINT ledger_entries_kind_check CHECK (kind IN ('hold', 'release', 'settle', 'late'));
CREATE UNIQUE INDEX ledger_entries_once ON ledger_entries (attempt_id, account_id, kind);

DROP FUNCTION reconciliation_request(date, text, text);
DROP FUNCTION ledger_correct(bigint, uuid, date, bigint);
DROP FUNCTION attempt_resolve(uuid, text, integer, text, text, text);
DROP FUNCTION attempt_resolve_refusal(dial_attempts, text, integer, text);
DROP FUNCTION attempt_facts(dial_attempts);
DROP VIEW attempts_overview;
DROP TABLE carrier_differences;
DROP TABLE carrier_reconciliations;
DROP TABLE audit_log;
DROP FUNCTION audit_refuse_change();
DROP INDEX dial_attempts_begun;
DROP INDEX dial_attempts_unresolved;
REVOKE ALL ON alembic_version FROM callfleet_auditor;
REVOKE USAGE ON SCHEMA public FROM callfleet_auditor;
