// The calls of Segment's SDK. Each is in order and none waits for its delivery, as on a page.
async function segmentSession(analytics) {
  analytics.page('Home')
  analytics.track('Product Viewed', { sku: 'G-32' })
  analytics.identify(user, { email })
  analytics.track('Order Completed', { revenue: 49.9, currency: 'EUR' })
  analytics.group('acme', { name: 'Acme' })
  analytics.screen('Basket')
  const visitor = analytics.user().anonymousId()
  await analytics.alias(user, former)
  await analytics.reset()
  const stranger = analytics.user().anonymousId()
  await analytics.page('Away')
  return { visitor, stranger, failures: [] }
}
