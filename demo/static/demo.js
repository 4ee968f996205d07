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

// The text under the pointer shows its place on the page.
for (const [name, on] of [['mouseover', true], ['mouseout', false]])
  document.addEventListener(name, event => {
    const box = event.target.dataset?.box
    if (box) document.getElementById(box)?.classList.toggle('pointed', on)
  })

// Follow the reading to the next page, unless the visitor has gone somewhere else.
let following = true
for (const name of ['wheel', 'touchmove', 'keydown']) document.addEventListener(name, () => { following = false }, {passive: true})
let reading = null
document.addEventListener('jobs:change', event => {
  const sheet = [...event.target.querySelectorAll('.box.lit')].pop()?.closest('.sheet')
  if (!sheet || sheet === reading) return
  if (following && reading) sheet.scrollIntoView({block: 'start'})
  reading = sheet
})
