"use strict";
// Puts the viewer together: data, filters, list, episode, keys, links.

const byId = (id) => document.getElementById(id);
const KEYS = {
  plain: "",
  chance: "Likely tokens are plain; the stronger the shade, the less likely the token was when it was sampled.",
  credit:
    "Blue tokens are made more likely by their turn's advantage; orange, dotted ones less. The stronger the shade, " +
    "the more room there was to move: 1 − probability. Held-out turns have no advantage.",
};

function describe(item) {
  const rewards = item.episodes.map((episode) => figure(episode.reward));
  const number = rewards.length > 1 ? `${rewards[0]} → ${rewards.at(-1)}` : rewards[0];
  const [first] = item.episodes;
  const stage = item.kind === "training" ? `step ${first.step}` : "held-out";
  const said = first.turns.length ? first.turns[0].text.slice(0, 80) : "";
  return { title: visible(first.example) || "without a name", figure: number, about: visible(`${stage} · ${said}`) };
}

// Where the browser can, what was searched for is marked in the text that is shown.
function mark(box, text) {
  if (!CSS.highlights) return;
  CSS.highlights.delete("found");
  if (!text) return;
  const ranges = [];
  for (const part of box.querySelectorAll(".answer, .message > div")) {
    const nodes = [];
    const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
    for (let at = 0; walker.nextNode(); at += walker.currentNode.length) nodes.push([at, walker.currentNode]);
    const whole = part.textContent.toLowerCase();
    const locate = (place) => nodes.findLast(([at]) => at <= place);
    for (let at = whole.indexOf(text); at >= 0 && ranges.length < 500; at = whole.indexOf(text, at + text.length)) {
      const [[first, start], [end, stop]] = [locate(at), locate(at + text.length - 1)];
      const range = document.createRange();
      range.setStart(start, Math.min(at - first, start.length));
      range.setEnd(stop, Math.min(at + text.length - end, stop.length));
      ranges.push(range);
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

// `again` puts the reader's choices back where the same page was shown before with fewer lines; `signal` ends the rest.
function startViewer(data, signal, again) {
  const items = toItems(data.episodes);
  const messages = data.messages.map(([, content]) => content.toLowerCase());
  data.agents = [...new Set(data.episodes.flatMap((episode) => episode.turns.map((turn) => turn.agent)))];
  const schemes = [...new Set(data.episodes.flatMap((episode) => episode.schemes))];
  const [form, box] = [byId("filters"), byId("episode")];
  const view = { shade: "chance", prompts: false, agent: "", text: "", left: 0, right: -1 };
  let chosen = null;

  offer(form.elements.run, data.runs.map((name, number) => [number, name]));
  offer(form.elements.agent, data.agents.map((name) => [name, name]));
  offer(form.elements.scheme, schemes.length ? [...schemes, "none"].map((name) => [name, name.replaceAll("_", " ")]) : []);

  function draw() {
    byId("key").textContent = KEYS[view.shade];
    if (!chosen) {
      box.replaceChildren(make("p", { class: "empty" }, items.length ? "No transcript answers this filter." : "No transcripts are recorded."));
      return;
    }
    if (view.left >= chosen.episodes.length) view.left = 0;
    if (view.right < 0 || view.right >= chosen.episodes.length) view.right = chosen.episodes.length - 1;
    box.replaceChildren(...episodeView(chosen, data, view, draw));
    mark(box, view.text);
  }

  const list = makeList(byId("list"), describe, (item, byHand) => {
    const other = item !== chosen;
    chosen = item;
    if (other || !item) draw();
    if (!item || !started) return;
    remember(address(item.episodes[0], data.runs));
    if (byHand && matchMedia("(max-width: 60rem)").matches) byId("shading").scrollIntoView();
  });

  function filter() {
    const filters = readFilters(form);
    Object.assign(view, { agent: filters.agent, text: filters.text });
    const found = filtered(items, filters, messages);
    byId("count").textContent = `${found.length.toLocaleString("en")} of ${items.length.toLocaleString("en")}`;
    const before = chosen;
    list.show(found, chosen);
    if (chosen === before) draw();
  }

  function find() {
    const place = findAddress(items, location.hash, data.runs);
    if (place >= 0) chosen = items[place];
    return place >= 0;
  }

  function follow() {
    if (!find()) return;
    form.reset();
    filter();
    byId("transcripts").scrollIntoView();
  }

  let pause = 0;
  form.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(filter, 120);
  });
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  byId("shading").addEventListener("change", (event) => {
    view.shade = event.target.value;
    draw();
  });
  for (const kind of ["pointerover", "click"]) {
    box.addEventListener(kind, (event) => {
      if (event.target.classList.contains("token")) byId("readout").textContent = readout(event.target);
    });
  }
  window.addEventListener("hashchange", follow, { signal });
  const togglePrompts = () => {
    view.prompts = !view.prompts;
    draw();
  };
  listen(list, togglePrompts, signal);

  let started = false;
  if (again) {
    again();
    find();
  }
  filter();
  if (!again) follow();
  started = true;
}

// A page inside of another, as in a notebook, has no address of its own.
function remember(hash) {
  if (location.protocol !== "about:") history.replaceState(null, "", hash);
}

document.addEventListener("click", (event) => {
  const link = location.protocol === "about:" && event.target.closest('a[href^="#"]');
  if (!link) return;
  event.preventDefault();
  byId(link.getAttribute("href").slice(1))?.scrollIntoView();
});

function listen(list, togglePrompts, signal) {
  const steps = { j: 1, k: -1 };
  const jumps = { ArrowDown: () => 1, ArrowUp: () => -1, PageDown: () => list.rows(), PageUp: () => -list.rows(), Home: () => -1e9, End: () => 1e9 };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const writing = event.target.matches("input:not([type=radio]), select, textarea");
    if (writing) {
      if (event.key === "Escape" && event.target.id === "search") byId("list").focus();
      return;
    }
    if (event.key in steps) list.move(steps[event.key]);
    else if (event.target.id === "list" && event.key in jumps) list.move(jumps[event.key]());
    else if (event.key === "/") byId("search").focus();
    else if (event.key === "p") togglePrompts();
    else return;
    event.preventDefault();
  }, { signal });
}

let ending = new AbortController();

async function begin(again) {
  ending.abort();
  ending = new AbortController();
  try {
    startViewer(await unpack(byId("block").textContent), ending.signal, again);
  } catch (error) {
    const failure = byId("failure");
    failure.textContent = `The transcripts could not be shown: ${error.message}. A browser of 2023 or later is needed.`;
    failure.hidden = false;
    throw error;
  } finally {
    performance.mark("ready");
    document.documentElement.dataset.ready = "yes";
  }
}

begin();
