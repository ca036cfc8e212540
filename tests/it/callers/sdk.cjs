// Upwork's own node SDK with a ticket, a personal access token or a placeholder as its access token, and a cookie where one
// is given; only its base URLs are set. Prints what it was answered as JSON.
const http = require("node:http");
const UpworkApi = require("@upwork/node-upwork-oauth2");
const Client = require("@upwork/node-upwork-oauth2/lib/client");
const Config = require("@upwork/node-upwork-oauth2/lib/config");
const { Graphql } = require("@upwork/node-upwork-oauth2/lib/routers/graphql");

const [door, accessToken, cookie] = process.argv.slice(2);

// It sends no field of its user's.
const request = http.request;
http.request = (options, ...rest) => {
  if (cookie) options.headers = { ...options.headers, Cookie: cookie };
  return request(options, ...rest);
};

function api() {
  const config = new Config({ clientId: "-", clientSecret: "-", accessToken, expiresIn: 86400 });
  Object.assign(config, { tokenHost: door, baseUrl: `${door}/upwork/api`, gqlUrl: `${door}/upwork/graphql` });
  return new UpworkApi(null, new Client(config));
}

const answered = (call) =>
  new Promise((resolve, reject) => call((error, status, body) => (error ? reject(error) : resolve({ status, body }))));

async function main() {
  const legacy = api();
  await new Promise((resolve) => legacy.setAccessToken(resolve));
  const rest = await answered((done) => legacy.client.get("/auth/v1/info", {}, done));
  const graphql = await answered((done) => new Graphql(api()).execute({ query: "{ user { id nid } }" }, done));
  console.log(JSON.stringify({ rest, graphql }));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
