// Runs the JavaScript of docs/apps.md, the first argument, on assertions, one a line. Prints a JSON list of claims and refusals.
import { createInterface } from "node:readline";

const { user } = await import("data:text/javascript," + encodeURIComponent(process.argv[2]));

const outcomes = [];
for await (const line of createInterface({ input: process.stdin })) {
  try {
    outcomes.push(await user({ headers: { "x-upwork-assertion": line } }));
  } catch (error) {
    if (!error.code?.startsWith("ERR_J")) throw error;
    outcomes.push(`${error.code}: ${error.message}`);
  }
}
console.log(JSON.stringify(outcomes));
