// What a page can do behind the gate, without knowing anything of OAuth.
const prefix = document.body.dataset.prefix;
const at = (id) => document.getElementById(id);
const show = (id, text, bad = false) => {
  at(id).textContent = text;
  at(id).classList.toggle("bad", bad);
};

// An answer of JSON, or the reason why there is none.
async function ask(path, options) {
  const answer = await fetch(path, options);
  const text = await answer.text();
  let json;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Error(`${answer.status}: the answer is no JSON`);
  }
  if (!answer.ok) throw new Error(`${answer.status}: ${json.detail || json.title || json.error || json.message || text}`);
  return json;
}

const query = (text) => ask(`${prefix}/graphql`, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ query: text }),
});

const pretty = (json) => JSON.stringify(json, null, 2);

query("{ user { id nid name } organization { id name } }")
  .then((json) => show("graphql", pretty(json)))
  .catch((error) => show("graphql", error.message, true));

query("{ marketplaceJobPostings(first: 3) { totalCount edges { node { id title } } } }")
  .then((json) => {
    if (!json.data) throw new Error(json.errors[0].message);
    at("jobs").replaceChildren(...json.data.marketplaceJobPostings.edges.map(({ node }) => {
      const item = document.createElement("li");
      item.textContent = node.title;
      return item;
    }));
  })
  .catch((error) => {
    const item = document.createElement("li");
    item.className = "bad";
    item.textContent = error.message;
    at("jobs").replaceChildren(item);
  });

// The browser connects again by itself after a cut, except where the gate said no.
const events = new EventSource("/events");
events.onmessage = (event) => show("events", event.data);
events.onerror = () => show("events", events.readyState === EventSource.CLOSED ? "closed" : "connecting again …", true);

const socket = new WebSocket(`${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/echo`);
socket.onopen = () => socket.send(`hello, ${at("user").textContent}`);
socket.onmessage = (event) => show("echo", event.data);
socket.onclose = () => show("echo", "closed", true);

for (const button of document.querySelectorAll("button[data-ask]")) {
  button.addEventListener("click", async () => {
    const id = button.dataset.ask;
    show(id, "asking …");
    try {
      show(id, pretty(await ask(`/${id}`)));
    } catch (error) {
      show(id, error.message, true);
    }
  });
}
