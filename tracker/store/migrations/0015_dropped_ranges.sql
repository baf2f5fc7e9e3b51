-- Why what lay in a range was dropped; empty for what was moved past. Cost: metadata
ALTER TABLE {db}.ranges ADD COLUMN IF NOT EXISTS `reason` LowCardinality(String) AFTER offset_to
