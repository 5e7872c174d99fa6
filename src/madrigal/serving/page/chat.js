"use strict";
// What models say is hostile: it becomes text nodes, and never markup.
const part = (id) => document.getElementById(id);
const model = part("model").textContent;
let control = null;

function element(tag, text, parent) {
  const made = document.createElement(tag);
  made.textContent = text;
  parent.append(made);
  return made;
}

function column(agent) {
  const found = [...part("agents").children].find((one) => one.dataset.agent === agent);
  if (found) return found;
  const made = element("div", "", part("agents"));
  made.dataset.agent = agent;
  element("h3", agent, made);
  return made;
}

function grow(words) {
  const place = column(words.agent);
  const growing = place.querySelector(".growing") ?? element("p", "", place);
  growing.className = "growing";
  growing.append(words.text);
}

function show(turn) {
  const place = column(turn.agent);
  place.querySelector(".growing")?.remove();
  element("p", turn.text + (turn.finish === "length" ? " […]" : ""), place);
  const round = turn.round ? `round ${turn.round + 1}, ` : "";
  element("small", `${round}${turn.completion_tokens} tokens, ${turn.seconds.toFixed(2)} s`, place);
}

function state(text, wrong) {
  part("state").textContent = text;
  part("state").className = wrong ? "error" : "";
}

function request() {
  const asked = { model, stream: true, messages: [{ role: "user", content: part("question").value }] };
  for (const name of ["temperature", "seed"]) {
    if (part(name).value !== "") asked[name] = Number(part(name).value);
  }
  const headers = { "Content-Type": "application/json" };
  if (part("key").value) headers.Authorization = `Bearer ${part("key").value}`;
  return { method: "POST", headers, body: JSON.stringify(asked), signal: control.signal };
}

async function refused(response) {
  part("lock").hidden = part("lock").hidden && response.status !== 401;
  const body = await response.json().catch(() => null);
  return new Error(body?.error?.message ?? `the server answered ${response.status}`);
}

function read(chunk) {
  if (chunk.error) throw new Error(chunk.error.message);
  if (chunk.madrigal?.words) grow(chunk.madrigal.words);
  if (chunk.madrigal?.turn) show(chunk.madrigal.turn);
  const text = chunk.choices?.[0]?.delta?.content;
  if (text) (part("answer").firstChild ?? element("p", "", part("answer"))).append(text);
  if (chunk.choices?.[0]?.finish_reason) state(`Done (seed ${chunk.madrigal.seed}).`);
}

async function ask(event) {
  event.preventDefault();
  control?.abort();
  const mine = (control = new AbortController());
  part("agents").replaceChildren();
  part("answer").replaceChildren();
  part("stop").disabled = false;
  state("The team is thinking …");
  try {
    const response = await fetch("v1/chat/completions", request());
    if (!response.ok) throw await refused(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      const events = (rest + next.value).split("\n\n");
      rest = events.pop();
      for (const one of events) {
        if (one !== "data: [DONE]") read(JSON.parse(one.slice("data: ".length)));
      }
    }
  } catch (error) {
    if (mine === control) state(error.name === "AbortError" ? "Stopped." : error.message, error.name !== "AbortError");
  } finally {
    if (mine === control) part("stop").disabled = true;
  }
}

part("form").addEventListener("submit", ask);
part("stop").addEventListener("click", () => control?.abort());
document.documentElement.dataset.ready = "yes";
