import { Analytics } from '@segment/analytics-node'
import { host, key, user, email, visitor, stranger, former, report } from './settings.mjs'

const failures = []
const analytics = new Analytics({ host, writeKey: key, flushAt: 3, flushInterval: 200 })
analytics.on('error', (error) => failures.push(String(error.reason ?? error.code)))
analytics.page({ anonymousId: visitor, name: 'Home', properties: { url: 'https://shop.example/' } })
analytics.track({ anonymousId: visitor, event: 'Product Viewed', properties: { sku: 'G-32' } })
analytics.identify({ anonymousId: visitor, userId: user, traits: { email } })
analytics.track({ userId: user, event: 'Order Completed', properties: { revenue: 49.9, currency: 'EUR' } })
analytics.group({ userId: user, groupId: 'acme', traits: { name: 'Acme' } })
analytics.screen({ userId: user, name: 'Basket' })
analytics.alias({ userId: user, previousId: former })
analytics.page({ anonymousId: stranger, name: 'Away' })
await analytics.closeAndFlush({ timeout: 60_000 })
report({ visitor, stranger, failures })
