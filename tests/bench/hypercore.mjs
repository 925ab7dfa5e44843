// One end of a hypercore replication over TCP, for tests/bench/peers.py.
//
//   node hypercore.mjs serve DIR RECORDS PUTS          prints its key and port; after the receiver has all, appends PUTS
//   node hypercore.mjs fetch DIR RECORDS PUTS KEY PORT prints the seconds of the replication and the ms of each append
import net from 'node:net'
import { createRequire } from 'node:module'

const Hypercore = createRequire(process.cwd() + '/')('hypercore')
const [role, folder, records, puts, key, port] = process.argv.slice(2)
const count = Number(records)
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const nowMs = () => Number(process.hrtime.bigint()) / 1e6 // one clock for all processes of a machine

async function serve () {
  const core = new Hypercore(folder)
  await core.ready()
  const began = nowMs()
  for (let first = 0; first < count; first += 1000) {
    await core.append(Array.from({ length: 1000 }, (_, n) => Buffer.alloc(300, `record ${first + n} `)))
  }
  const tookMs = nowMs() - began
  const server = net.createServer(async (socket) => {
    const stream = core.replicate(false)
    socket.on('error', () => {})
    stream.on('error', () => {})
    socket.pipe(stream).pipe(socket)
    while ((await core.peers[0]?.remoteContiguousLength ?? 0) < count) await pause(20)
    await pause(300)
    for (let n = 0; n < Number(puts); n++) {
      await core.append(Buffer.from(String(nowMs()).padEnd(300)))
      await pause(10)
    }
  })
  server.listen(0, '127.0.0.1', () => {
    console.log(JSON.stringify({ key: core.key.toString('hex'), port: server.address().port, tookMs }))
  })
}

async function fetch () {
  const core = new Hypercore(folder, Buffer.from(key, 'hex'))
  await core.ready()
  const began = nowMs()
  const socket = net.connect(Number(port), '127.0.0.1')
  const stream = core.replicate(true)
  socket.pipe(stream).pipe(socket)
  await core.update({ wait: true })
  await core.download({ start: 0, end: count }).done()
  const tookMs = nowMs() - began
  const live = []
  for (let n = 0; n < Number(puts); n++) {
    const block = await core.get(count + n)
    live.push(nowMs() - Number(block.toString()))
  }
  console.log(JSON.stringify({ tookMs, live }))
  process.exit(0)
}

await (role === 'serve' ? serve() : fetch())
