-- Who said so in a call before there was the list; the trigger has those that come meanwhile. Whom somebody has taken
-- off since stays off.
INSERT INTO do_not_call (number_hash, namespace, source, attempt_id, since)
    SELECT DISTINCT ON (c.number_hash, c.namespace) c.number_hash, c.namespace, 'opt-out', k.id, k.created_at
    FROM calls k JOIN contacts c ON c.id = k.contact_id WHERE k.disposition = 'optedOut'
        AND NOT EXISTS (SELECT 1 FROM audit_log a WHERE a.action = 'do-not-call.remove'
                        AND a.subject = c.namespace || '/' || c.number_hash AND a.at > k.created_at)
    ORDER BY c.number_hash, c.namespace, k.created_at
    ON CONFLICT DO NOTHING;
