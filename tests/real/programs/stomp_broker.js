// A STOMP broker, which sends a message to all subscribers but its sender.
"use strict";

const { createServer } = require("node:http");
const StompServer = require("stomp-broker-js");

const http = createServer();
new StompServer({ server: http, path: "/stomp" });
http.listen(Number(process.env.PORT), "127.0.0.1");
