// What every page is told by its address, and how it says that it is done. Not a module, so that
// classic scripts can use it.
const query = new URLSearchParams(location.search)
const host = query.get('host'), key = query.get('key'), user = query.get('user'), strategy = query.get('strategy')
const email = `${user}@clients.example`, former = `former-${user}`

function run(session) {
  session().then(
    (ids) => { window.result = ids },
    (error) => { window.result = { failures: [String(error && error.stack || error)] } },
  )
}
