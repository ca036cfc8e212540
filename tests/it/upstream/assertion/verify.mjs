// Verifies assertions as an app on Node does: one a line, with the keys at a URL. Prints a JSON list of claims and refusals.
// The first argument is the file of the library.
import { createInterface } from "node:readline";

const [library, url, issuer, audience] = process.argv.slice(2);
const { createRemoteJWKSet, errors, jwtVerify } = await import(library);
const keys = createRemoteJWKSet(new URL(url));

const outcomes = [];
for await (const line of createInterface({ input: process.stdin })) {
  try {
    const { payload } = await jwtVerify(line, keys, { issuer, audience, algorithms: ["ES256"], requiredClaims: ["sub", "exp"] });
    outcomes.push(payload);
  } catch (error) {
    if (!(error instanceof errors.JOSEError)) throw error;
    outcomes.push(`${error.code}: ${error.message}`);
  }
}
console.log(JSON.stringify(outcomes));
