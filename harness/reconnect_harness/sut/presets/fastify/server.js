// node fastify.js LISTEN UPSTREAM FOLDER: @fastify/http-proxy between two HOST:PORT, from FOLDER/node_modules.
//
// wsReconnect is as in the project's own reconnection example: a ping every three seconds, and reconnectOnClose, so that a
// lost upstream is dialled again while its client stays. Its hooks are left out: what is sent meanwhile is for the user of
// the plugin to keep and to send again.
'use strict'

const { createRequire } = require('node:module')

const [listen, upstream, folder] = process.argv.slice(2)
const load = createRequire(`${folder}/package.json`)
const server = load('fastify')({ logger: { level: 'warn' } })

server.register(load('@fastify/http-proxy'), {
  upstream: `http://${upstream}`,
  websocket: true,
  wsReconnect: { pingInterval: 3_000, reconnectOnClose: true, logs: true },
  wsServerOptions: { perMessageDeflate: false },
  wsClientOptions: {
    perMessageDeflate: false,
    // By default only the cookie is passed on. The id lets the upstream know a client again, as it would behind nginx.
    rewriteRequestHeaders: (headers, request) => {
      const { cookie, 'x-connection-id': id } = request.headers
      return { ...headers, ...(cookie && { cookie }), ...(id && { 'x-connection-id': id }) }
    }
  }
})

const [host, port] = listen.split(':')
server.listen({ host, port: Number(port) }).catch((error) => {
  console.error(error.message)
  process.exit(1)
})
