"""Pure planners: functions of a snapshot and a clock. They decide; reconcile applies."""
