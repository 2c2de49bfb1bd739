// A chat with GraphQL over WebSocket (graphql-ws). BUG=lose: a message that is said while another is stored is lost.
"use strict";

const { EventEmitter, on } = require("node:events");
const { WebSocketServer } = require("ws");
const { useServer } = require("graphql-ws/use/ws");
const { buildSchema } = require("graphql");

const said = new EventEmitter().setMaxListeners(0);
let storing = false;
const schema = buildSchema(`
  type Query { hello: String }
  type Mutation { say(text: String!, room: String!): Boolean }
  type Subscription { said(room: String!): String }
`);
schema.getMutationType().getFields().say.resolve = async (_, { text, room }) => {
  if (process.env.BUG === "lose" && storing) return true;
  storing = true;
  await new Promise((stored) => setTimeout(stored, 2));
  storing = false;
  said.emit(room, text);
  return true;
};
schema.getSubscriptionType().getFields().said.subscribe = async function* (_, { room }) {
  for await (const [text] of on(said, room)) yield { said: text };
};
useServer({ schema }, new WebSocketServer({ host: "127.0.0.1", port: Number(process.env.PORT), path: "/graphql" }));
