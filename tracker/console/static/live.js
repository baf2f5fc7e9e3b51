// Brings the overview up to date while somebody looks at it and is not typing.
const every = 3000;
async function refresh() {
  const main = document.getElementById("live");
  if (document.hidden || main.contains(document.activeElement)) return;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, signal: AbortSignal.timeout(10000) });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    main.replaceChildren(...page.getElementById("live").childNodes);
    document.title = page.title;
    document.body.classList.remove("stale");
  } catch {
    document.body.classList.add("stale");
  }
}
(async () => { for (;;) { await new Promise((done) => setTimeout(done, every)); await refresh(); } })();
