"use strict";
(() => {
  const tip = document.getElementById("tip"), content = document.getElementById("content");
  const parsed = new WeakMap();
  const data = svg => {
    if (!parsed.has(svg)) parsed.set(svg, JSON.parse(svg.dataset.chart));
    return parsed.get(svg);
  };
  let shown = null, index = 0;
  const hide = () => {
    if (shown) shown.querySelector(".cursor").setAttribute("visibility", "hidden");
    shown = null;
    tip.hidden = true;
  };
  const show = (svg, i) => {
    const d = data(svg), box = svg.getBoundingClientRect();
    if (shown !== svg) hide();
    shown = svg;
    index = Math.max(0, Math.min(d.x.length - 1, i));
    const cursor = svg.querySelector(".cursor");
    cursor.setAttribute("d", "M" + d.x[index] + " 10V222");
    cursor.setAttribute("visibility", "visible");
    tip.textContent = "epoch " + d.epochs[index] + d.lines.map(l => "\n" + l.name + " " + l.text[index]).join("");
    tip.hidden = false;
    const at = box.left + d.x[index] / 480 * box.width, width = tip.offsetWidth;
    tip.style.left = Math.max(4, at + width + 16 < innerWidth ? at + 12 : at - width - 12) + "px";
    tip.style.top = Math.max(4, box.top + 12) + "px";
  };
  const chartOf = e => e.target instanceof Element ? e.target.closest("svg[data-chart]") : null;
  const follow = e => {
    const svg = chartOf(e);
    if (!svg) return hide();
    const box = svg.getBoundingClientRect(), x = (e.clientX - box.left) / box.width * 480;
    let best = 0;
    data(svg).x.forEach((v, i, all) => { if (Math.abs(v - x) < Math.abs(all[best] - x)) best = i; });
    show(svg, best);
  };
  document.addEventListener("pointermove", follow);
  document.addEventListener("pointerdown", follow);
  document.addEventListener("scroll", hide, { passive: true });
  document.addEventListener("focusin", e => { const svg = chartOf(e); if (svg && svg.matches(":focus-visible")) show(svg, data(svg).x.length - 1); });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", e => {
    const svg = chartOf(e), step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (e.key === "Escape") hide();
    if (!svg || !step) return;
    e.preventDefault();
    show(svg, shown === svg ? index + step : data(svg).x.length - 1);
  });

  const body = document.body;
  if (body.dataset.live === undefined) return;
  const lost = document.getElementById("lost"), progress = document.getElementById("progress");
  let loading = false, again = false;
  const reload = async () => {
    if (loading) { again = true; return; }
    loading = true;
    try {
      const answer = await fetch("content", { cache: "no-store" });
      if (answer.ok) {
        const text = await answer.text();
        const open = [...content.querySelectorAll("details[open]")].map(d => d.id);
        hide();
        content.innerHTML = text;
        open.forEach(id => { const d = document.getElementById(id); if (d) d.open = true; });
      }
    } catch (e) { /* the stream says that it is lost */ }
    loading = false;
    if (again) { again = false; reload(); }
  };
  const stream = new EventSource("events?epochs=" + body.dataset.epochs + "&version=" + body.dataset.live);
  stream.onopen = () => { lost.hidden = true; };
  stream.onerror = () => { lost.hidden = false; };
  stream.addEventListener("epoch", reload);
  stream.addEventListener("run", e => {
    if (JSON.parse(e.data).state !== "running") { progress.hidden = true; }
    reload();
  });
  stream.addEventListener("progress", e => {
    const p = JSON.parse(e.data);
    progress.hidden = false;
    document.getElementById("bar").value = p.steps > 0 ? p.step / p.steps : 0;
    document.getElementById("step").textContent = "epoch " + p.epoch + (p.epochs ? " of " + p.epochs : "") + ", step " + p.step + " of " + p.steps +
      ", loss " + (p.loss === null ? "not finite" : p.loss.toPrecision(4)) + (p.images_per_s ? ", " + Math.round(p.images_per_s) + " images/s" : "");
  });
  addEventListener("pagehide", () => stream.close());
})();
