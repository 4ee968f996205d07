// What htmx does not do by itself. Everything else on the page comes from the server.
const notice = text => {
  const p = Object.assign(document.createElement('p'), {className: 'notice', textContent: text})
  document.getElementById('notice').replaceChildren(p)
}

// A file that is too large is not worth sending.
document.addEventListener('change', event => {
  const input = event.target, file = input.files?.[0]
  document.getElementById('notice').replaceChildren()
  if (file && file.size > Number(input.dataset.max)) {
    event.stopPropagation()
    input.value = ''
    notice(`This file is too large; the limit is ${input.dataset.max / 2 ** 20} MB.`)
  }
}, true)

document.addEventListener('htmx:afterRequest', event => { if (event.target.matches('form')) event.target.reset() })
document.addEventListener('htmx:sendError', () => notice('The server did not answer. Try again in a moment.'))

// The browser reconnects a lost stream. If the server refuses, it has been restarted: it knows what to say.
document.addEventListener('htmx:sseError', event => {
  if (event.detail.source?.readyState === EventSource.CLOSED) location.reload()
  else notice('The connection was lost; trying again…')
})
document.addEventListener('htmx:sseOpen', () => document.getElementById('notice').replaceChildren())

// The text under the pointer shows its place on the page.
for (const [name, on] of [['mouseover', true], ['mouseout', false]])
  document.addEventListener(name, event => {
    const box = event.target.dataset?.box
    if (box) document.getElementById(box)?.classList.toggle('pointed', on)
  })

// Follow the reading to the next page, unless the visitor has gone somewhere else.
let following = true
for (const name of ['wheel', 'touchmove', 'keydown']) document.addEventListener(name, () => { following = false }, {passive: true})
document.addEventListener('htmx:oobAfterSwap', event => {
  const sheet = event.target.closest?.('.boxes')?.closest('.sheet')
  if (following && sheet?.previousElementSibling?.matches('.sheet')) sheet.scrollIntoView({block: 'start'})
})
