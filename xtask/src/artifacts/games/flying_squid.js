// server.js PORT WORLD: a Minecraft server whose world is the folder of that name.
const { createMCServer } = require('flying-squid')

const [port, world] = process.argv.slice(2)
createMCServer({
  host: '0.0.0.0',
  port: Number(port),
  version: '1.16.1',
  motd: world,
  'max-players': 20,
  'online-mode': false,
  logging: true,
  gameMode: 1,
  difficulty: 1,
  worldFolder: world,
  generation: { name: 'superflat', options: {} },
  kickTimeout: 10000,
  plugins: {},
  modpe: false,
  'view-distance': 6,
  'player-list-text': { header: '', footer: '' },
  'everybody-op': false,
  'max-entities': 100,
  'enable-command-block': false
})
