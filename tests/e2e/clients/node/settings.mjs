// What every client of these tests is told, and how it says that it is done.
export const host = process.env.SILLAGE_HOST
export const key = process.env.SILLAGE_KEY
export const user = process.env.SILLAGE_USER
export const email = `${user}@clients.example`
// The visitor who becomes the user, one who never says who he is, and a name that the user had before.
export const visitor = `visitor-${user}`
export const stranger = `stranger-${user}`
export const former = `former-${user}`

export function report(result) {
  process.stdout.write(JSON.stringify(result) + '\n')
}
