// What a driver is asked for and answers, one line of JSON each: see protocol.py.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

export const HEADER = 'x-hermes-session-id';

const installed = createRequire(process.argv[2]);

/** Import a package as it is installed in the client's environment. */
export const load = (name) => import(pathToFileURL(installed.resolve(name)));

/** Return an installed package's version. */
export function version(name) {
  return `${name} ${installed(`${process.argv[2].replace(/package.json$/, '')}node_modules/${name}/package.json`).version}`;
}

const WEATHER = { Oslo: 7, Rome: 21 };

/** Answer for the tool. */
export const weatherIn = (city) => `${WEATHER[city] ?? 'unknown'} degrees in ${city}`;

/** Return the schema of a structured answer, and that of the tool's arguments. */
export const schemas = ({ z }) => ({
  weather: z.object({ city: z.string(), degrees: z.number().int() }),
  city: z.object({ city: z.string() }),
});

const idIn = (headers) => headers?.get?.(HEADER) ?? headers?.[HEADER] ?? null;
export { idIn };

function described(error) {
  const told = error.lastError ?? error; // what a retry gave up on
  return {
    type: told.constructor.name === 'Error' ? told.name : told.constructor.name,
    status: told.status ?? told.statusCode ?? null,
    id: idIn(told.headers ?? told.responseHeaders ?? told.cause?.headers),
    message: String(told.message),
  };
}

/** Do what each line asks for, until there are no more. */
export async function serve(versions, drive) {
  const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
  console.log = console.error; // what a client prints is no answer
  print({ versions });
  for await (const line of createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    const seen = { texts: [], ids: [], pieces: 0, value: null, error: null };
    try {
      await drive({ ...asked, headers: asked.session ? { [HEADER]: asked.session } : {} }, seen);
    } catch (error) {
      seen.error = described(error);
    }
    print(seen);
  }
}
