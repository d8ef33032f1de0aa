import { createRequire } from 'node:module'
import { host, key, user, email, visitor, stranger, former, report } from './settings.mjs'

const Analytics = createRequire(import.meta.url)('@rudderstack/rudder-sdk-node')
const failures = []
const analytics = new Analytics(key, {
  dataPlaneUrl: host, flushAt: 3, flushInterval: 200, errorHandler: (error) => failures.push(String(error)),
})
const sent = []
const call = (name, message) => sent.push(new Promise((resolve) => analytics[name](message, resolve)))
call('page', { anonymousId: visitor, name: 'Home', properties: { url: 'https://shop.example/' } })
call('track', { anonymousId: visitor, event: 'Product Viewed', properties: { sku: 'G-32' } })
call('identify', { anonymousId: visitor, userId: user, traits: { email } })
call('track', { userId: user, event: 'Order Completed', properties: { revenue: 49.9, currency: 'EUR' } })
call('group', { userId: user, groupId: 'acme', traits: { name: 'Acme' } })
call('screen', { userId: user, name: 'Basket' })
call('alias', { userId: user, previousId: former })
call('page', { anonymousId: stranger, name: 'Away' })
await Promise.all(sent)
report({ visitor, stranger, failures })
