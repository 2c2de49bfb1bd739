// node fastify.js LISTEN UPSTREAM FOLDER: @fastify/http-proxy between two HOST:PORT, from FOLDER/node_modules.
//
// wsReconnect is configured as in the plugin's reconnection example: a ping every three seconds, and reconnectOnClose, so
// that a lost upstream is redialled while its client stays. The example's hooks are left out: the user of the plugin would
// have to keep and resend the messages that are sent in the meantime.
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
