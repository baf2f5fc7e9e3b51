-- What came from a place last before anybody announced to watch it: until then its coverage stays assumed. Cost: metadata
ALTER TABLE {db}.heard ADD COLUMN IF NOT EXISTS `unannounced_at` SimpleAggregateFunction(max, DateTime64(6, 'UTC')) AFTER received_at
