// What the programs here have in common: each runs what its client can do, one after the
// other, and tells of each whether it went as it must.
import { isDeepStrictEqual } from "node:util";

// report runs the features and prints the mistake of each, or null. The prefix is that of
// their names in the table of docs/openai.md.
export async function report(features, prefix = "") {
  const result = {};
  for (const [own, feature] of Object.entries(features)) {
    const name = prefix + own;
    try {
      await feature();
      result[name] = null;
    } catch (error) {
      result[name] = String(error?.stack ?? error);
    }
  }
  process.stdout.write(JSON.stringify(result));
  process.exit(0); // connections that are kept open would keep the program, too
}

// equal throws unless two values are the same.
export function equal(got, want) {
  if (!isDeepStrictEqual(got, want)) {
    throw new Error(`got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
  }
}

// thrown returns what a function throws.
export async function thrown(f) {
  try {
    await f();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

// url is the base URL, and user a conversation that has the upstream play a scene.
export const url = process.argv[2];
export const user = (scene) => [{ role: "user", content: scene }];

// What the scenes of the upstream say.
export const usage = { prompt_tokens: 7, completion_tokens: 3, total_tokens: 10 };
export const picture = "data:image/png;base64,iVBORw0KGgo=";

// weather is what the scene "weather" calls, twice.
export const weather = ({ city }) => `${city}: 7 degrees`;
export const cities = ["Bern", "Ulm"];

// legacy is false where the path of legacy completions is another API's.
export const legacy = url.includes("/openai/");
