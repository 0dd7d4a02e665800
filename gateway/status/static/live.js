// Fetches the parts that the gateway says have changed, and says so when it no longer speaks.
(() => {
  "use strict";
  const STALE_MS = 15000, RETRY_MS = 1000;
  const doc = document, stale = doc.getElementById("stale"), say = doc.getElementById("say");
  const wanted = new Set(), shown = new Map();
  let stream = null, heard = Date.now(), busy = false, keys = null;

  const all = () => [...doc.querySelectorAll("[data-part]")];
  const stops = part => [...part.querySelectorAll("a,summary")];

  function put(part, fresh) {
    const selection = getSelection();
    if (shown.get(fresh.dataset.part) === fresh.innerHTML) return;
    if (!selection.isCollapsed && part.contains(selection.anchorNode)) return;
    shown.set(fresh.dataset.part, fresh.innerHTML);
    const open = [...part.querySelectorAll("details[open]")].map(d => d.id);
    const focus = stops(part).indexOf(doc.activeElement);
    const href = focus < 0 ? null : doc.activeElement.getAttribute("href");
    part.replaceChildren(...fresh.childNodes);
    for (const details of part.querySelectorAll("details")) details.open = open.includes(details.id);
    if (focus >= 0) {
      const targets = stops(part);
      const same = href && targets.find(a => a.getAttribute("href") === href);
      (targets[focus] && (!href || targets[focus].getAttribute("href") === href) ? targets[focus] : same)?.focus({ preventScroll: true });
    }
  }

  function head() {
    const clock = doc.querySelector("[data-title]");
    if (!clock) return;
    const silent = !stale.hidden;
    doc.title = (silent ? "⚠ " : "") + clock.dataset.title;
    if (keys !== null && keys !== clock.dataset.keys)
      say.textContent = [...doc.querySelectorAll(".al h2")].map(h => h.textContent).join(" ");
    keys = clock.dataset.keys;
  }

  async function pull() {
    if (busy) return;
    const names = all().map(part => part.dataset.part).filter(name => wanted.has(name));
    wanted.clear();
    if (!names.length) return;
    busy = true;
    try {
      const url = new URL(location.href);
      url.hash = "";
      url.searchParams.set("lang", doc.documentElement.lang);
      for (const name of names) url.searchParams.append("part", name);
      const answer = await fetch(url, { cache: "no-store" });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const part of all()) {
          const found = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
          if (found) put(part, found);
        }
        head();
      }
    } catch { /* the missing beat will tell */ }
    busy = false;
    if (wanted.size) setTimeout(pull, RETRY_MS);
  }

  function listen() {
    stream = new EventSource("/api/stream");
    stream.addEventListener("beat", () => { heard = Date.now(); });
    stream.addEventListener("changed", event => {
      heard = Date.now();
      for (const name of JSON.parse(event.data)) wanted.add(name);
      pull();
    });
  }

  doc.addEventListener("visibilitychange", () => {
    if (doc.hidden) { stream?.close(); stream = null; return; }
    heard = Date.now();
    for (const part of all()) wanted.add(part.dataset.part);
    pull();
    if (!stream) listen();
  });

  setInterval(() => {
    const silence = Date.now() - heard;
    if (doc.hidden) return;
    stale.hidden = silence < STALE_MS;
    const s = Math.round(silence / 1000);
    stale.textContent = doc.body.dataset.old.replace("{age}", s < 60 ? `${s} s` : `${Math.floor(s / 60)} min`);
    if (!stale.hidden && stream?.readyState === 2) listen();
    head();
  }, RETRY_MS);

  head();
  if (!doc.hidden) listen();
})();
