"use strict";
// Which items are wanted, and in which order. Knows the fields of the form by name.

function readFilters(form) {
  const fields = new FormData(form);
  const number = (name) => (fields.get(name) === "" ? null : Number(fields.get(name)));
  return {
    text: fields.get("text").trim().toLowerCase(),
    kind: fields.get("kind"),
    run: fields.get("run"),
    agent: fields.get("agent"),
    scheme: fields.get("scheme"),
    step: [number("firstStep"), number("lastStep")],
    reward: [number("least"), number("greatest")],
    order: fields.get("order"),
  };
}

const within = (value, [least, greatest]) =>
  (least === null || (value !== null && value >= least)) && (greatest === null || (value !== null && value <= greatest));

// One episode must answer every wish at once. `messages` are prompts in lower case.
function wanted(episode, filters, messages) {
  if (filters.run !== "" && episode.run !== Number(filters.run)) return false;
  if (!within(episode.step, filters.step) || !within(episode.reward, filters.reward)) return false;
  if (filters.scheme && !schemesOf(episode).includes(filters.scheme)) return false;
  const turns = episode.turns.filter((turn) => !filters.agent || turn.agent === filters.agent);
  if (filters.agent && !turns.length) return false;
  if (!filters.text || episode.example.toLowerCase().includes(filters.text)) return true;
  return turns.some(
    (turn) =>
      turn.text.toLowerCase().includes(filters.text) ||
      turn.prompt.some((message) => messages[message].includes(filters.text)),
  );
}

const schemesOf = (episode) => (episode.schemes.length ? episode.schemes : ["none"]);

const gain = (item) => item.episodes.at(-1).reward - item.episodes[0].reward;
const last = (item) => item.episodes.at(-1).reward;
const latest = (item) => Math.max(...item.episodes.map((episode) => episode.step ?? -1));
const ORDERS = {
  newest: (one, other) => latest(other) - latest(one),
  highest: (one, other) => last(other) - last(one),
  lowest: (one, other) => last(one) - last(other),
  gain: (one, other) => gain(other) - gain(one),
  loss: (one, other) => gain(one) - gain(other),
};

function filtered(items, filters, messages) {
  const found = items.filter(
    (item) =>
      (!filters.kind || item.kind === filters.kind) &&
      item.episodes.some((episode) => wanted(episode, filters, messages)),
  );
  return filters.order ? found.sort(ORDERS[filters.order]) : found;
}

// Offers what there is to choose from, and hides a field where there is no choice.
function offer(select, values, least = 2) {
  for (const [value, name] of values) {
    const option = document.createElement("option");
    option.value = value;
    option.textContent = visible(name);
    select.append(option);
  }
  select.closest("label").hidden = values.length < least;
}
