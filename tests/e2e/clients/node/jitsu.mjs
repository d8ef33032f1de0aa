import { jitsuAnalytics } from '@jitsu/js'
import { host, key, user, email, visitor, stranger, report } from './settings.mjs'

const failures = []
const analytics = jitsuAnalytics({ host, writeKey: key, s2s: true, errorPolicy: (message) => failures.push(String(message)) })
// This client never tries again: what is refused is lost, and the application hears of it.
for (let tries = 0; tries < 1 + Number(process.env.SILLAGE_VISIT_FAULTS); tries++) {
  await analytics.track('Probe', {}, { anonymousId: visitor })
}
await analytics.page({ name: 'Home', url: 'https://shop.example/' }, { anonymousId: visitor })
await analytics.track('Product Viewed', { sku: 'G-32' }, { anonymousId: visitor })
await analytics.identify(user, { email }, { anonymousId: visitor })
await analytics.track('Order Completed', { revenue: 49.9, currency: 'EUR' }, { userId: user, anonymousId: visitor })
await analytics.group('acme', { name: 'Acme' }, { userId: user, anonymousId: visitor })
await analytics.reset()
await analytics.page({ name: 'Away' }, { anonymousId: stranger })
report({ visitor, stranger, failures })
