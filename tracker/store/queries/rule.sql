-- Findings that somebody ruled on, as rows of this pass with their new status; those that stand otherwise by now stay.
INSERT INTO {db}.findings
    (tenant, flow, message_id, hop, stage, kind, pass, finding_id, incident, status, by, cause, opened_at, known_at,
     resolved_at, deadline, origin_at, held_by, why)
SELECT
    tenant, flow, message_id, hop, stage, kind, {pass:UInt64}, finding_id, incident, {status:String}, {by:String}, cause,
    opened_at, known_at,
    if({status:String} = 'open', fromUnixTimestamp64Micro(toInt64(0), 'UTC'),
        greatest(opened_at, fromUnixTimestamp64Micro({now:Int64}, 'UTC'))),
    deadline, origin_at, held_by, why
FROM {db}.findings FINAL
WHERE tenant = '' AND flow = {flow:String} AND status IN {before:Array(String)}
    AND {narrowed}
