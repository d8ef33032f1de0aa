// Opens a page in Chromium, prints what it reports, and keeps the browser until standard input ends. With
// SILLAGE_LEAVE the page is left at once: what it held back must go with it.
import { chromium } from 'playwright-core'
import { report } from './settings.mjs'

const browser = await chromium.launch({
  executablePath: process.env.SILLAGE_CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync'],
})
const said = []
try {
  const page = await browser.newPage()
  page.on('console', (message) => said.push(message.text()))
  page.on('pageerror', (error) => said.push(String(error)))
  page.on('requestfailed', (request) => said.push(`${request.url()}: ${request.failure()?.errorText}`))
  await page.goto(process.env.SILLAGE_PAGE)
  await page.waitForFunction(() => window.result !== undefined, undefined, { timeout: 60_000 })
  report({ ...await page.evaluate(() => window.result), said })
  if (process.env.SILLAGE_LEAVE) await page.goto('about:blank')
  process.stdin.resume()
  await new Promise((resolve) => process.stdin.once('end', resolve))
} catch (error) {
  process.stderr.write(`${error}\n${said.join('\n')}\n`)
  process.exitCode = 1
} finally {
  await browser.close()
}
