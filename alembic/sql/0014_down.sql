-- A release before keeps to the newest generation that it ever saw.
DROP FUNCTION ledger_forget_later(bigint, text, text, text, text, bigint);
