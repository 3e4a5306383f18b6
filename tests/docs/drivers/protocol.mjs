// What a driver is told, one line of JSON each, and answers with one line: see ../pages.py.

import { createInterface } from 'node:readline';

/** Do what each line asks for: `open` makes a client, which the lines after it name. */
export async function serve(open, deeds, told) {
  const clients = new Map();
  console.log = console.warn = console.error; // what a client prints is no answer
  for await (const line of createInterface({ input: process.stdin })) {
    const { name, deed, given } = JSON.parse(line);
    let value = null;
    if (deed === 'open') {
      clients.set(name, { own: open(...given), doing: Promise.resolve() });
    } else if (deed === 'told') {
      value = told(clients.get(name).own);
    } else if (deed === 'settled') {
      const client = clients.get(name);
      await client.doing;
      value = told(client.own);
    } else {
      const client = clients.get(name);
      // Not awaited: it goes on while the test does something else.
      client.doing = Promise.resolve(deeds[deed](client.own, ...given)).catch((error) => {
        client.own.failure = String(error);
      });
    }
    process.stdout.write(`${JSON.stringify(value)}\n`);
  }
}
