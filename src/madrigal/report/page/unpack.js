"use strict";
// The transcripts that the page carries: base64 of gzip of JSON. They become items, the entries of the list.

async function unpack(block) {
  const letters = atob(block);
  const bytes = new Uint8Array(letters.length);
  for (let place = 0; place < letters.length; place += 1) bytes[place] = letters.charCodeAt(place);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// An item is an episode of training, or a held-out example with all its evaluations.
function toItems(episodes) {
  const held = new Map();
  const played = [];
  for (const episode of episodes) {
    if (episode.evaluation) {
      const key = JSON.stringify([episode.run, episode.example]);
      if (!held.has(key)) held.set(key, { kind: "held-out", episodes: [] });
      held.get(key).episodes.push(episode);
    } else {
      played.push({ kind: "training", episodes: [episode] });
    }
  }
  return [...held.values(), ...played];
}

// Where a link points: the run, where there are several, and a line of its episodes.jsonl.
function address(episode, runs) {
  const run = runs.length > 1 ? `${encodeURIComponent(runs[episode.run])}:` : "";
  return `#episode=${run}${episode.line}`;
}

function findAddress(items, hash, runs) {
  return items.findIndex((item) => item.episodes.some((episode) => address(episode, runs) === hash));
}
