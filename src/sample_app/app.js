// What a page can do behind the sidecar without knowing anything about OAuth.
const prefix = document.body.dataset.prefix;
const at = (id) => document.getElementById(id);
const show = (id, text, bad = false) => {
  at(id).textContent = text;
  at(id).classList.toggle("bad", bad);
};

// The JSON answer, or an error with the reason.
async function call(path, options) {
  const answer = await fetch(path, options);
  const text = await answer.text();
  let json;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Error(`${answer.status}: the answer is not JSON`);
  }
  if (!answer.ok) throw new Error(`${answer.status}: ${json.detail || json.title || json.error || json.message || text}`);
  return json;
}

const query = (text) => call(`${prefix}/graphql`, {
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

// The browser reconnects by itself, unless the sidecar refused the request.
const events = new EventSource("/events");
events.onmessage = (event) => show("events", event.data);
events.onerror = () => show("events", events.readyState === EventSource.CLOSED ? "closed" : "reconnecting …", true);

const socket = new WebSocket(`${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/echo`);
socket.onopen = () => socket.send(`hello, ${at("user").textContent}`);
socket.onmessage = (event) => show("echo", event.data);
socket.onclose = () => show("echo", "closed", true);

for (const button of document.querySelectorAll("button[data-call]")) {
  button.addEventListener("click", async () => {
    const id = button.dataset.call;
    show(id, "loading …");
    try {
      show(id, pretty(await call(`/${id}`)));
    } catch (error) {
      show(id, error.message, true);
    }
  });
}
