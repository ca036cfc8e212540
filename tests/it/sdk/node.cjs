// Upwork's own node SDK as a program next door: only its base URLs are set, and a placeholder for the token, without
// which it refuses to begin. Prints what it was answered as JSON.
const UpworkApi = require("@upwork/node-upwork-oauth2");
const Client = require("@upwork/node-upwork-oauth2/lib/client");
const Config = require("@upwork/node-upwork-oauth2/lib/config");
const { Graphql } = require("@upwork/node-upwork-oauth2/lib/routers/graphql");

const [door, tenant] = process.argv.slice(2);
const config = new Config({
  clientId: "unused",
  clientSecret: "unused",
  redirectUri: "http://localhost/unused",
  accessToken: "placeholder",
  expiresIn: 86400,
});
config.tokenHost = door;
config.baseUrl = `${door}/upwork/api`;
config.gqlUrl = `${door}/upwork/graphql`;

const answered = (call) =>
  new Promise((resolve, reject) => call((error, status, body) => (error ? reject(error) : resolve({ status, body }))));

async function main() {
  const rest = new UpworkApi(null, new Client(config));
  await new Promise((resolve) => rest.setAccessToken(resolve));
  const me = await answered((done) => rest.client.get("/auth/v1/info", { a: "b c" }, done));
  const missing = await answered((done) => rest.client.put("/nothing/v1/here", { text: "x" }, done));

  const api = new UpworkApi(null, new Client(config));
  const graphql = (query) => answered((done) => new Graphql(api).execute({ query }, done));
  const user = await graphql("query { user { id nid rid } organization { id } }");
  api.setOrgUidHeader(tenant);
  const organization = await graphql("{ organization { id } }");
  console.log(JSON.stringify({ me, missing, user, organization }));
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
