-- One signal of whole flows, hour by hour, as it is compared.
SELECT toString(flow) AS flow, '' AS hop, '' AS stage, toUInt32(intDiv(toUnixTimestamp(at) - {start:UInt32}, 3600)) AS i, {value} AS y, false AS blind
FROM {db}.settled_hours FINAL
WHERE tenant = '' AND flow IN {flows:Array(String)} AND at >= toDateTime({start:UInt32}, 'UTC') AND at < toDateTime({end:UInt32}, 'UTC')
