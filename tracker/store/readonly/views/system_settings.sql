-- The settings that a client may send; clickhouse-connect sends no others.
SELECT name, value, changed, description, min, max, toUInt8(0) AS readonly, type, default
FROM system.settings
WHERE name IN ({settings})
